"""Local web page: drop a clip, see it enhanced, and see the predictions of models."""
