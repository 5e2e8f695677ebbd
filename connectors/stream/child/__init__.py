"""All that runs in a recorder's process. Imports the index and the addresses of streams, which both sides share."""
