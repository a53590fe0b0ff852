"""What happens, in which order: Prefect flows, the recipe, settings and the command line."""
