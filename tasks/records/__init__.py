"""What things are: frozen pydantic models that travel between flows, tasks and stores."""
