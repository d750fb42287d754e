"""Repositories for containers: the Docker volume plugin behind `docker-volume-cvmfs`."""
