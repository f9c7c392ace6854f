"""What rests on importance weights: missing cells, and how far a weighted mean may be believed."""
