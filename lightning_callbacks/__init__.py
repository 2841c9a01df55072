"""PyTorch Lightning callbacks of captum_ext. None are released yet."""
