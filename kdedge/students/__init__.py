"""Students: small Keras classifiers that convert without Flex ops."""
