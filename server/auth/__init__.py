"""Identity: accounts, sessions, keys and token issuers."""
