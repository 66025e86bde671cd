"""HyCon: hybrid contrastive learning of tri-modal representation (Mai et al., IEEE TAFFC 2022). One model, one run."""
