"""What people look at: the terminal while a run goes on, tables of results, and pages.

Each module reads run folders or plain results and is imported by name. Pages are templates (`templates/`) that `page`
fills; `report` and `autopsy_page` say with what.
"""
