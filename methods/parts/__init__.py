"""Small parts shared by the methods: heads, losses, queues and moving averages."""
