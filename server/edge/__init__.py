"""The wire: middleware, refusals to statuses, health, reflection and the HTTP port."""
