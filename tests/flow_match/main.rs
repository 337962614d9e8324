//! What diffusers' flow-matching classes have beyond the fixtures, against runs that `make.py` recorded, and what it is here.

mod scalewise;
