#!/bin/bash
# report of a 113 KB .sqz with 65,536 classes must not ask for 32 GiB
PY=$(dirname "$(readlink -f "$1")")/python; d=$(mktemp -d); cd "$d"; "$PY" - <<'P'
import struct,zlib,os,numpy as np
from PIL import Image
from squeezenet.arch.graph import build_graph
from squeezenet.arch.spec import *
from squeezenet.arch.preprocessing import default_preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import encode
from squeezenet.codec.types import *
from squeezenet.arch.quantized_tensors import scaled_tensors
k=65536
s=SqueezeNetSpec(name='b',stem=ConvSpec(out_channels=1,kernel=1),fires=(FireSpec(s1x1=1,e1x1=1,e3x3=1),),pools=(),num_classes=k,input_channels=1,input_size=(1,1))
r=ModelRecord(spec=s,preprocessing=default_preprocessing(s),class_names=tuple(f'c{i}' for i in range(k)))
g=build_graph(s)
L=tuple(CompressedLayer(name=c.name,weights=LevelWeights(levels_OIHW=np.zeros(c.weight_shape,np.int8),scales_O=np.full(c.out_channels,2.0**-20,np.float32)),bias_O=np.zeros(c.out_channels,np.float32)) for c in g.convs)
open('m.sqz','wb').write(encode(CompressedModel(record=r,layers=L,activations={n:ActivationScale(scale=1.0,zero_point=0) for n in scaled_tensors(g)})))
for c in('c0','c1'):
    os.makedirs(f'd/{c}')
    for i in range(3): Image.new('L',(1,1)).save(f'd/{c}/{i}.png')
P
[ -f m.sqz ] || { echo "the case's own set-up failed"; exit 2; }
(ulimit -v 8000000; "$1" report m.sqz d --out rp >o 2>&1; echo $? >rc); tail -1 o; r=0
grep -qi "internal error\|MemoryError\|Traceback" o && r=1; [ "$(cat rc)" -le 2 ] || r=1; rm -rf "$d"; exit $r
