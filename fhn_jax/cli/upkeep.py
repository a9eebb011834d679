"""Commands that keep a run and its data up to date."""

from fhn_jax.cli import forgetting, publishing, refreshing

COMMANDS = (*refreshing.COMMANDS, *publishing.COMMANDS, *forgetting.COMMANDS)
