"""Resumable uploads: records on the disk, quotas, checksums and the tus protocol."""
