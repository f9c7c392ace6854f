"""What the data say of a fitted model: log p(x), the gap explained, collapse, calibration, missing cells."""
