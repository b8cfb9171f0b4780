"""Numbers and tables as people read them: `numbers.rounded`, `tables.print_table`."""
