"""BacMR: a tutor's backend over gRPC, with cited answers and exact billing."""
