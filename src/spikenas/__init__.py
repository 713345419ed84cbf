"""spikenas finds, trains and quantizes spiking neural networks that provably fit a small device."""

__version__ = "0.1.0"
