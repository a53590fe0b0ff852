"""A store over its years: what it holds, what depends on what, what it cost, what may go."""
