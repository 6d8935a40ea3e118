"""From a folder of test images to a zip of masks that is fit to be submitted, or to a reason why there is none."""
