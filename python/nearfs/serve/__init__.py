"""Serving repositories over HTTP: the embedded server behind `nearfs serve`."""
