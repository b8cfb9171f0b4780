"""What every policy of action chunks has in common."""
