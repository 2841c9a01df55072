"""The tables and figures of Bargal et al., Excitation Backprop for RNNs, CVPR 2018."""
