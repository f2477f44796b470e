"""The diffusion model: noising process, U-Net, loss, samplers, averaging, model folders."""
