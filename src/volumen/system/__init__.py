"""The ground that everything stands on where a machine has bad days: records that are checked when they are read, names
that are no paths, folders that one process holds, requests to stop, worker processes that end with their parent.
"""
