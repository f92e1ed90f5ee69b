"""A tiny qwen3 model (about 2 MB) whose weights are set by hand, so that a real Ollama plays scripts: no training, no download, no GPU.

Scripts: `{"default": [chunk, …], "[[bash]]": [chunk, …], …}`. A key is a *trigger*: a string that is one token of the vocabulary. The
answer is the script of the trigger that stands latest in the prompt, else "default". Each chunk becomes one token, so one streamed
piece; a chunk that is itself a trigger hands over to that script at the next turn, because it comes back in the history. A script that
ends with `LOOP` begins again instead of ending. Keep chunks ASCII: Ollama's byte-level decoder mangles other user-defined tokens. Keep two
triggers a hundred tokens apart: the engine keeps keys in 16 bits, too coarse to tell nearer ones from each other.

How it works. Embedding = constant + one-hot state. One attention head: a trigger's key has a component in a rotary pair that hardly turns
(found at any distance) and one in a pair of angle ~2e-5 (the score falls with distance), so the softmax picks the latest trigger, and its
value is the script's one-hot. The output matrix maps each chunk to its successor with weight 60, and at the newline after "assistant" a
trigger to its first chunk with weight 20. The feed-forward part is zero.
"""

from __future__ import annotations

import json
import math
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

Scripts = dict[str, list[str]]

LOOP = "\0loop"
DEFAULT = "default"
END, NEWLINE, START_OF_TEXT = "<|im_end|>", "Ċ", "<|endoftext|>"
CONTROL = [START_OF_TEXT, "<|im_start|>", END]
MARKUP = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
HEAD = 32
ROPE_BASE = 1e7
RECENCY_ANGLE = 2.4e-5
CONSTANT, OTHER_TOKEN, AFTER_NEWLINE, FIRST_STATE = 0, 1, 2, 3  # dimensions of the embedding


@dataclass
class Vocabulary:
    """Tokens in the order of their ids."""

    tokens: list[str]
    merges: list[str]
    kinds: list[int] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = [TokenType.NORMAL] * len(self.tokens)
        self.ids = {token: number for number, token in enumerate(self.tokens)}

    def add(self, token: str, kind: int = TokenType.USER_DEFINED) -> int:
        """The token's id, made if need be."""
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
            self.kinds.append(kind)
        return self.ids[token]


def train_vocabulary(size: int = 4096) -> Vocabulary:
    """A byte-level BPE trained on the standard library's source; any English text would do."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:120]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((path.read_text(errors="replace") for path in sources), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return Vocabulary(sorted(model["vocab"], key=model["vocab"].get), merges)


@dataclass
class Machine:
    """What the weights are to do: `follows` maps a token to the next, `first` a trigger (None: no trigger) to its script's first token."""

    follows: dict[int, int]
    first: dict[int | None, int]


def compile_scripts(scripts: Scripts, vocabulary: Vocabulary) -> Machine:
    """Raises ValueError when a chunk would need two successors: merge it with its neighbour."""
    for token in CONTROL:
        vocabulary.add(token, TokenType.CONTROL)
    for token in MARKUP:
        vocabulary.add(token)
    triggers = {name: None if name == DEFAULT else vocabulary.add(name) for name in scripts}
    machine = Machine({}, {})
    for name, chunks in scripts.items():
        chain = [vocabulary.add(chunk) for chunk in chunks if chunk != LOOP]
        after_last = chain[0] if chunks[-1] == LOOP else vocabulary.ids[END]
        machine.first[triggers[name]] = chain[0]
        for here, there in zip(chain, [*chain[1:], after_last], strict=True):
            if machine.follows.setdefault(here, there) != there:
                raise ValueError(
                    f"chunk {vocabulary.tokens[here]!r} would need two successors: merge it with its neighbour"
                )
    return machine


def weights(machine: Machine, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """All tensors of the model."""
    states = sorted(machine.follows)
    triggers = [trigger for trigger in machine.first if trigger is not None]
    # A token can be both, a chunk of one script and the trigger of another: then it has two dimensions.
    state_at = {token: FIRST_STATE + number for number, token in enumerate(states)}
    trigger_at = {token: FIRST_STATE + len(states) + number for number, token in enumerate(triggers)}
    width = 64 * math.ceil((FIRST_STATE + len(states) + len(triggers)) / 64)
    ones = np.ones(width, np.float32)
    query, key, value, back = _attention(trigger_at, width)
    return {
        "token_embd.weight": _embedding([*state_at.items(), *trigger_at.items()], vocabulary, width),
        "output_norm.weight": ones,
        "output.weight": _output(machine, state_at, trigger_at, len(vocabulary.tokens), width),
        "blk.0.attn_norm.weight": ones,
        "blk.0.attn_q.weight": query,
        "blk.0.attn_k.weight": key,
        "blk.0.attn_v.weight": value,
        "blk.0.attn_output.weight": back,
        "blk.0.attn_q_norm.weight": np.full(HEAD, 1800, np.float32),
        "blk.0.attn_k_norm.weight": np.ones(HEAD, np.float32),
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": np.zeros((64, width), np.float32),
        "blk.0.ffn_up.weight": np.zeros((64, width), np.float32),
        "blk.0.ffn_down.weight": np.zeros((width, 64), np.float32),
    }


def _embedding(dimensions: list[tuple[int, int]], vocabulary: Vocabulary, width: int) -> np.ndarray:
    embedding = np.zeros((len(vocabulary.tokens), width), np.float32)
    embedding[:, CONSTANT] = 1
    embedding[:, OTHER_TOKEN] = 1
    for token, at in [(vocabulary.ids[NEWLINE], AFTER_NEWLINE), *dimensions]:
        embedding[token, OTHER_TOKEN] = 0
        embedding[token, at] = 1
    return embedding


def _attention(trigger_at: dict[int, int], width: int) -> tuple[np.ndarray, ...]:
    half = HEAD // 2
    recency = min(range(half), key=lambda pair: abs(math.log(ROPE_BASE ** (-2 * pair / HEAD) / RECENCY_ANGLE)))
    still, other = half - 1, half - 2
    query, key, value = (np.zeros((HEAD, width), np.float32) for _ in range(3))
    back = np.zeros((width, HEAD), np.float32)
    query[still, CONSTANT] = 1.1
    query[recency + half, CONSTANT] = 1.0  # at distance d the score is 1.1 - sin(d * angle), always above 0
    key[other, CONSTANT] = 0.05
    for slot, at in enumerate(trigger_at.values()):
        key[still, at] = key[recency, at] = 1
        value[slot, at] = 1 / math.sqrt(width / 2)
        back[at, slot] = 1
    return query, key, value, back


def _output(
    machine: Machine, state_at: dict[int, int], trigger_at: dict[int, int], size: int, width: int
) -> np.ndarray:
    output = np.zeros((size, width), np.float32)
    for here, there in machine.follows.items():
        output[there, state_at[here]] += 60
    for trigger, first in machine.first.items():
        output[first, AFTER_NEWLINE if trigger is None else trigger_at[trigger]] += 8 if trigger is None else 20
    return output


def write_model(path: Path, scripts: Scripts, context: int = 131_072) -> None:
    """Write the model to `path`. `context` is the longest window it admits to."""
    vocabulary = train_vocabulary()
    tensors = weights(compile_scripts(scripts, vocabulary), vocabulary)
    writer = GGUFWriter(str(path), "qwen3")
    _describe(writer, context, tensors["output_norm.weight"].size)
    _tokenizer(writer, vocabulary)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: GGUFWriter, context: int, width: int) -> None:
    writer.add_name("scripted")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_file_type(0)


def _tokenizer(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.ids[END])
    writer.add_bos_token_id(vocabulary.ids[START_OF_TEXT])
    writer.add_pad_token_id(vocabulary.ids[START_OF_TEXT])
    writer.add_add_bos_token(False)
