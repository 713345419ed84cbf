"""From a cell to layers."""

from __future__ import annotations

from spikenas.errors import GenotypeError
from spikenas.graph import Add, Lif
from spikenas.space.genotype import Cell, Connection
from spikenas.space.operations import OPERATIONS, Sharing, Tap


def lower_cell(
    sharing: Sharing, cell: Cell, source: str, *, name: str, channels: int, lif: Lif, weight_bits: int = 8
) -> str:
    """Append ``cell`` fed by the layer ``source``; returns the name of the layer that is its output.

    A node is an Add of its branches; with one branch and no feedback it is that branch. Backward connections run
    their operation on the source node and enter the Add of the target one step later. Dead connections are left out.

    Args:
        sharing: the graph under construction.
        cell: the connections.
        source: a layer of shape (channels, H, W); the output has the same shape.
        name: prefix of all layer names, unique in the graph.
        channels: width of every node.
        lif: the neuron of every spiking operation.
        weight_bits: of every convolution.

    Raises GenotypeError when no path leads from the cell's input to its output.
    """
    if not cell.is_live:
        raise GenotypeError(f"{name} has no path from input to output: connect node 0 to node {cell.nodes - 1}")
    live = cell.canonical.connections
    values: dict[int, str] = {}

    def emit(edge: Connection) -> str:
        tap = Tap(sharing, values[edge.source], f"{name}_e{edge.source}{edge.target}", channels, lif, weight_bits)
        branch = OPERATIONS[edge.operation](tap)
        assert branch is not None  # Cell holds no connection that carries "none"
        return branch

    feedback = [edge for edge in live if edge.source > edge.target]
    revisited = {edge.target for edge in feedback}
    for node in range(cell.nodes):
        branches = [emit(edge) for edge in live if edge.target == node and edge not in feedback]
        branches = [source] if node == 0 else branches
        if len(branches) > 1 or node in revisited:
            values[node] = sharing.builder.add(Add(), *branches, name=f"{name}_n{node}")
        elif branches:
            values[node] = branches[0]
    for edge in feedback:
        sharing.builder.feedback(emit(edge), values[edge.target])
    return values[cell.nodes - 1]
