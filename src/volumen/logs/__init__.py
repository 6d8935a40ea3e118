"""Training logs of other programs, read into what a monitor sees (`read.read_log_of`)."""
