"""The AWS API: an endpoint that answers part of it from the model, and passes on the rest to moto."""
