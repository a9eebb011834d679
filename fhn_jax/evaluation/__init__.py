"""How good codes are: metrics, evaluators, and the study of new users."""
