import json

import numpy as np
from onnx import TensorProto, helper


def to_onnx(booster, n_features):
    doc = json.loads(booster.save_raw("json"))["learner"]
    base = doc["learner_model_param"]["base_score"].strip("[]")
    p = float(base)
    b = float(np.log(p / (1 - p)))
    A = {
        k: []
        for k in [
            "treeids",
            "nodeids",
            "featureids",
            "values",
            "modes",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
            "hitrates",
        ]
    }
    T = {k: [] for k in ["treeids", "nodeids", "ids", "weights"]}
    for t, tree in enumerate(doc["gradient_booster"]["model"]["trees"]):
        for i, (l, r) in enumerate(zip(tree["left_children"], tree["right_children"])):
            leaf = l == -1
            A["treeids"].append(t)
            A["nodeids"].append(i)
            A["featureids"].append(0 if leaf else tree["split_indices"][i])
            A["values"].append(0.0 if leaf else tree["split_conditions"][i])
            A["modes"].append("LEAF" if leaf else "BRANCH_LT")
            A["truenodeids"].append(0 if leaf else l)
            A["falsenodeids"].append(0 if leaf else r)
            A["missing_value_tracks_true"].append(0 if leaf else int(tree["default_left"][i]))
            A["hitrates"].append(1.0)
            if leaf:
                T["treeids"].append(t)
                T["nodeids"].append(i)
                T["ids"].append(0)
                T["weights"].append(tree["split_conditions"][i])
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["logit"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[b],
        **{"nodes_" + k: v for k, v in A.items()},
        **{"target_" + k: v for k, v in T.items()},
    )
    g = helper.make_graph(
        [node, helper.make_node("Sigmoid", ["logit"], ["fraud_probability"])],
        "m",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info("fraud_probability", TensorProto.FLOAT, [None, 1])],
    )
    m = helper.make_model(
        g, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    return m.SerializeToString()
