"""Pretraining: backbones, optimisers, schedules, sampling, checkpoints and the loop."""
