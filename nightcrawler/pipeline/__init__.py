"""The chain as one command: a recipe becomes links, the runner knows from files what is done."""
