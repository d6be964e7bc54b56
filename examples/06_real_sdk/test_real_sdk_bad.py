"""The same, with what is done for every chunk that should be done once."""

import openai

from pytest_streamperf import assert_linear

QUESTION = [{"role": "user", "content": "Tell me a long story."}]


def names_in(text):
    names = 0
    for word in text.split(" "):
        names += word.istitle() or word.isupper()
    return names


def story(url):
    text, names = "", 0
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for chunk in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            names = names_in(text)
    return text, names


def test_replies_may_be_long():
    assert_linear(story, serve="openai-chat", up_to=500, seconds=6.0)
