"""The tables of Li et al., Towards Visually Explaining Video Understanding Networks ..., WACV 2021."""
