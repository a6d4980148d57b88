"""Other people's clients against a real server with the real default model, used as their own documentation does.

langchain-openai is installed with the other packages. litellm (190 MB with what it needs) and llama-index (which wants an
openai client of before version 3) are tested where they are installed."""

import asyncio

import pytest

from servers import Server, environment
from conftest import COMMAND

MODEL = "smollm2-135m-instruct"
QUESTION = "Why is the sky blue? Answer in one sentence."


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory):
    s = Server(COMMAND, smollm2, "--port", 0, "--context", 2048, env=environment(tmp_path_factory.mktemp("home")))
    yield s
    s.until("the end of all work", lambda h: h["running"] == 0 and h["waiting"] == 0)
    assert s.stop() == 0


@pytest.fixture(scope="module")
def expected(server):
    """The greedy answer and the embedding that every client has to get."""
    _, _, body = server.chat(QUESTION, temperature=0, max_tokens=16)
    _, _, vector = server.post("/v1/embeddings", {"input": QUESTION})
    return body["choices"][0]["message"]["content"], vector["data"][0]["embedding"]


def near(a, b):
    return sum(x * y for x, y in zip(a, b)) > 0.999


# ---- langchain-openai

@pytest.fixture
def langchain(server, monkeypatch):
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    return dict(model=MODEL, base_url=server.url + "/v1", api_key="none")


def test_langchain_chat(langchain, expected):
    from langchain_openai import ChatOpenAI
    llm = ChatOpenAI(**langchain, temperature=0, max_tokens=16)
    message = llm.invoke([("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"), ("human", QUESTION)])
    assert message.content == expected[0] and message.usage_metadata["output_tokens"] <= 16
    assert message.response_metadata["finish_reason"] in ("stop", "length")
    chunks = list(llm.stream(QUESTION))
    assert "".join(c.content for c in chunks) == expected[0] and len(chunks) > 5
    assert [m.content for m in llm.batch([QUESTION, QUESTION])][0]

    async def both():
        return (await llm.ainvoke(QUESTION)).content, "".join([c.content async for c in llm.astream(QUESTION)])
    whole, streamed = asyncio.run(both())
    assert whole and streamed


def test_langchain_logprobs_and_extras(langchain):
    from langchain_openai import ChatOpenAI
    llm = ChatOpenAI(**langchain, temperature=0, max_tokens=3, seed=1, stop=["zzz"], extra_body={"top_k": 5, "min_p": 0.1}).bind(logprobs=True, top_logprobs=2)
    content = llm.invoke(QUESTION).response_metadata["logprobs"]["content"]
    assert len(content) == 3 and len(content[0]["top_logprobs"]) == 2


def test_langchain_tools(langchain):
    """The tools reach the template; whether so small a model calls one is its own affair."""
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return "sunny"
    message = ChatOpenAI(**langchain, temperature=0, max_tokens=8).bind_tools([weather]).invoke("Hello")
    assert message.content or message.tool_calls


def test_langchain_completion_and_embeddings(langchain, expected):
    from langchain_openai import OpenAI, OpenAIEmbeddings
    assert OpenAI(**langchain, temperature=0, max_tokens=4).invoke("The capital of France is").strip().startswith("Paris")
    embeddings = OpenAIEmbeddings(**langchain, check_embedding_ctx_length=False)
    assert near(embeddings.embed_query(QUESTION), expected[1])
    assert len(embeddings.embed_documents(["a", "b", "c"])) == 3


# ---- litellm

@pytest.fixture
def litellm(server, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices
    module = pytest.importorskip("litellm")
    module.telemetry = False
    return module, dict(model="openai/" + MODEL, api_base=server.url + "/v1", api_key="none")


def test_litellm(litellm, expected):
    module, how = litellm
    ask = dict(**how, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=16)
    r = module.completion(**ask)
    assert r.choices[0].message.content == expected[0] and r.usage.completion_tokens <= 16
    assert "".join(c.choices[0].delta.content or "" for c in module.completion(**ask, stream=True)) == expected[0]
    assert asyncio.run(module.acompletion(**ask)).choices[0].message.content
    assert near(module.embedding(**how, input=[QUESTION]).data[0]["embedding"], expected[1])
    assert module.text_completion(**{**how, "model": "text-completion-openai/" + MODEL}, prompt="The capital of France is", temperature=0, max_tokens=4).choices[0].text
    with pytest.raises(module.exceptions.BadRequestError, match="temperature"):
        module.completion(**{**ask, "temperature": -1})


# ---- llama-index

def test_llama_index(server, expected):
    like = pytest.importorskip("llama_index.llms.openai_like")
    from llama_index.core.llms import ChatMessage
    llm = like.OpenAILike(model=MODEL, api_base=server.url + "/v1", api_key="none", is_chat_model=True, temperature=0, max_tokens=16)
    ask = [ChatMessage(role="user", content=QUESTION)]
    assert llm.chat(ask).message.content == expected[0]
    assert "".join(r.delta or "" for r in llm.stream_chat(ask)) == expected[0]
    assert asyncio.run(llm.achat(ask)).message.content
    assert llm.complete("The capital of France is").text
    embeddings = pytest.importorskip("llama_index.embeddings.openai_like")
    model = embeddings.OpenAILikeEmbedding(model_name=MODEL, api_base=server.url + "/v1", api_key="none")
    assert near(model.get_query_embedding(QUESTION), expected[1]) and len(model.get_text_embedding_batch(["a", "b", "c"])) == 3
