"""What watches a training: pure reducers over its records, live and afterwards."""
