"""The parts of `./run bench gpu`, one module a question; `plan` holds their sizes, `report` what they found."""
