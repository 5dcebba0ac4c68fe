"""Binary routing in MLP layers: which neurons decide how nonlinear a layer is at a token."""
