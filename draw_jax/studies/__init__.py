"""Studies of trained models: what each part of DRAW is worth, and what its latents decide."""
