import numpy as np


def poisson(rate, seconds, generator):
    return np.sort(generator.random(round(rate * seconds))) * seconds


def exponential_p(gaps, rate):
    from scipy.stats import kstest

    return float(kstest(gaps, "expon", args=(0, 1 / rate)).pvalue)
