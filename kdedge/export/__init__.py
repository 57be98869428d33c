"""From a student to a bundle: conversion, quantization, parity."""
