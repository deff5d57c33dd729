"""Ray itself: start-up, pools, backpressure, metrics."""
