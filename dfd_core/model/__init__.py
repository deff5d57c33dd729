"""The model bundle: card, loading, the predictor and its calibration."""
