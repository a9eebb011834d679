"""What turns a shop's files into the layout; see `data_tools.import_catalogue`."""
