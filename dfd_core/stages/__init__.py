"""The stages of a run, one video or segment at a time: plan, extract, score; and the sandbox around them."""
