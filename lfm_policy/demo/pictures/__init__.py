"""What the demo page shows: charts, figures, films."""
