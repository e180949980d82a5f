"""The scripted S3 server, which runs in a process of its own: `python -m tests.support.s3.serving`."""
