"""Pictures of a trained model, and the latents they are drawn from."""
