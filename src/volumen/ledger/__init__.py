"""The ledger: experiments as plain files, one each, and what can be read off them."""
