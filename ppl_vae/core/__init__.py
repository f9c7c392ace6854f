"""What every room stands on: errors, files that are whole or not there, random states. Most of it imports no torch."""
