"""The iteration: summaries, starts, tiles, steps and the loop over them."""
