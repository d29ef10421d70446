"""Answer OpenAI clients over HTTP with transformers' own request handlers, after every request was checked."""
